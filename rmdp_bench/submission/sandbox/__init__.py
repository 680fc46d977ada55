"""Where the files of strangers are read and played: limited processes of their own.

confinement    layers around a process, and which of them are active
budget         seconds and memory of a whole submission
children       start such a process and take its answer
checker, player, recipe_player    what runs in it
"""
