"""Scalars for TensorBoard, written without torch or TensorFlow."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path


class ScalarWriter:
    """One event file.

    Raises:
        ImportError: the package tensorboard is not installed.
    """

    def __init__(self, directory: Path) -> None:
        """Create the folder and its event file."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(directory))

    def write(self, transitions: int, scalars: Mapping[str, float | None]) -> None:
        """Add one point to each scalar; transitions per policy are the x axis."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars.items()
            if value is not None
        ]
        event = Event(wall_time=time.time(), step=transitions, summary=Summary(value=values))
        self._writer.add_event(event)

    def restart(self, transitions: int) -> None:
        """Drop the points after a checkpoint that the run resumes from."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        session = SessionLog(status=SessionLog.START)
        event = Event(wall_time=time.time(), step=transitions + 1, session_log=session)
        self._writer.add_event(event)

    def close(self) -> None:
        """Write out and close."""
        self._writer.close()
