"""Kernels in memory: arrays in, threads, specialisations, bound objectives."""
