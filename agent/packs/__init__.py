"""Packs: one file that carries a task with its specialists, known cases and fit to another machine.

``content`` says what may stand in a pack, ``export`` writes one, ``archive`` reads the file without trusting
it, ``verification`` checks what is in it, and ``install`` puts it beside the other builds.
"""
