"""Native code by LLVM: loop nests and whole training loops, without Python in between.

It needs the library llvmlite, which is imported when a program is first compiled so.
"""
