"""Cutroom: raw video in, clean annotated clip datasets out, streaming on Ray Data."""
