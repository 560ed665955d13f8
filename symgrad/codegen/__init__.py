"""Scheduled graphs to machine code: an emitter of LLVM IR, vector math, targets."""
