"""Croissant: the description of a dataset that search engines and ML Commons' tools read.

Follows version 1.0 of the format (http://mlcommons.org/croissant/1.0).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minari.dataset.minari_dataset import parse_dataset_id

from rmdp_bench.datasets.table import DatasetEntry

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def describe(entry: DatasetEntry, metadata: Mapping[str, Any], hdf5: Path) -> dict[str, Any]:
    """Give the JSON-LD document of a dataset.

    Args:
        entry: its row.
        metadata: what Minari has in metadata.json.
        hdf5: the file of the episodes, DATASET/data/NAME.
    """
    with hdf5.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _, _, version = parse_dataset_id(entry.id)
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": entry.id.replace("/", "-"),
        "description": metadata["description"],
        "license": f"https://spdx.org/licenses/{entry.licence}",
        "creator": {"@type": "sc:Organization", "name": metadata["author"][0]},
        "keywords": ["reinforcement learning", "offline reinforcement learning", "Minari"],
        "version": f"{version}.0.0",
        "isAccessibleForFree": True,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": hdf5.name,
                "name": hdf5.name,
                "description": "The episodes; `minari.load_dataset` reads them.",
                "contentUrl": f"data/{hdf5.name}",
                "contentSize": f"{hdf5.stat().st_size} B",
                "encodingFormat": "application/x-hdf5",
                "sha256": digest,
            }
        ],
    }
