"""Mini-batches inside a compiled loop: the shuffle, and the rows of the next batch.

The shuffle is NumPy's ``Generator.permutation`` (Fisher and Yates; Durstenfeld,
Communications of the ACM 7, 1964; integers by masking and rejection) on NumPy's own bit
generator, called by address: so a seed gives the batches that it gives in Python.
"""

from __future__ import annotations

BATCH = (
    "rows", "rows_per_batch", "position", "order", "generator", "next_uint32",
    "arrays", "whole", "short", "whole_context", "short_context",
)  # fmt: skip
"""What says where batches come from, 8 bytes each. ``whole`` and ``short`` are tables
of ``arrays`` lines: for batches of full size, and for the last one of an epoch."""

LINE = ("source", "source_stride", "target", "target_stride", "bytes")
"""A line of a table: an array and the buffer for its rows, in bytes."""

_TEXT = """
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

declare i64 @llvm.ctlz.i64(i64, i1)

; an integer in [0, last], as NumPy draws it: 0 < last < 2**32
define internal i64 @draw(ptr %generator, ptr %next, i64 %last) {
entry:
  %zeros = call i64 @llvm.ctlz.i64(i64 %last, i1 true)
  %mask = lshr i64 -1, %zeros
  br label %again
again:
  %word = call i32 %next(ptr %generator)
  %wide = zext i32 %word to i64
  %result = and i64 %wide, %mask
  %above = icmp ugt i64 %result, %last
  br i1 %above, label %again, label %done
done:
  ret i64 %result
}

; order: 0, 1, ... rows-1, shuffled
define internal void @permute(ptr %order, i64 %rows, ptr %generator, ptr %next) {
entry:
  br label %fill
fill:
  %i = phi i64 [ 0, %entry ], [ %i1, %fill ]
  %p = getelementptr i64, ptr %order, i64 %i
  store i64 %i, ptr %p
  %i1 = add i64 %i, 1
  %filling = icmp slt i64 %i1, %rows
  br i1 %filling, label %fill, label %start
start:
  %top = sub i64 %rows, 1
  br label %head
head:
  %k = phi i64 [ %top, %start ], [ %k1, %swap ]
  %any = icmp sgt i64 %k, 0
  br i1 %any, label %swap, label %done
swap:
  %j = call i64 @draw(ptr %generator, ptr %next, i64 %k)
  %p_k = getelementptr i64, ptr %order, i64 %k
  %p_j = getelementptr i64, ptr %order, i64 %j
  %a = load i64, ptr %p_k
  %b = load i64, ptr %p_j
  store i64 %b, ptr %p_k
  store i64 %a, ptr %p_j
  %k1 = sub i64 %k, 1
  br label %head
done:
  ret void
}

; bytes from one place to another, eight at a time
define internal void @move_bytes(ptr %to, ptr %from, i64 %bytes) alwaysinline {
entry:
  %whole = and i64 %bytes, -8
  br label %words
words:
  %w = phi i64 [ 0, %entry ], [ %w1, %word ]
  %more = icmp slt i64 %w, %whole
  br i1 %more, label %word, label %rest
word:
  %p_from = getelementptr i8, ptr %from, i64 %w
  %p_to = getelementptr i8, ptr %to, i64 %w
  %v = load i64, ptr %p_from, align 1
  store i64 %v, ptr %p_to, align 1
  %w1 = add i64 %w, 8
  br label %words
rest:
  %b = phi i64 [ %whole, %words ], [ %b1, %byte ]
  %left = icmp slt i64 %b, %bytes
  br i1 %left, label %byte, label %done
byte:
  %q_from = getelementptr i8, ptr %from, i64 %b
  %q_to = getelementptr i8, ptr %to, i64 %b
  %u = load i8, ptr %q_from
  store i8 %u, ptr %q_to
  %b1 = add i64 %b, 1
  br label %rest
done:
  ret void
}

; rows of one array into its buffer; %ahead rows ahead are fetched into the cache
define internal void @gather(ptr %line, ptr %rows, i64 %count, i64 %left) {
entry:
  %source = call ptr @address(ptr %line, i64 <source>)
  %step = call i64 @integer(ptr %line, i64 <source_stride>)
  %target = call ptr @address(ptr %line, i64 <target>)
  %target_step = call i64 @integer(ptr %line, i64 <target_stride>)
  %bytes = call i64 @integer(ptr %line, i64 <bytes>)
  %last_byte = sub i64 %bytes, 1
  %last = sub i64 %left, 1
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %k1, %body ]
  %any = icmp slt i64 %k, %count
  br i1 %any, label %body, label %done
body:
  %far = add i64 %k, 16
  %inside = icmp slt i64 %far, %last
  %ahead = select i1 %inside, i64 %far, i64 %last
  %p_ahead = getelementptr i64, ptr %rows, i64 %ahead
  %row_ahead = load i64, ptr %p_ahead
  %offset_ahead = mul i64 %row_ahead, %step
  %first_line = getelementptr i8, ptr %source, i64 %offset_ahead
  %last_line = getelementptr i8, ptr %first_line, i64 %last_byte
  call void @llvm.prefetch.p0(ptr %first_line, i32 0, i32 3, i32 1)
  call void @llvm.prefetch.p0(ptr %last_line, i32 0, i32 3, i32 1)
  %p_row = getelementptr i64, ptr %rows, i64 %k
  %row = load i64, ptr %p_row
  %offset = mul i64 %row, %step
  %from = getelementptr i8, ptr %source, i64 %offset
  %offset_to = mul i64 %k, %target_step
  %to = getelementptr i8, ptr %target, i64 %offset_to
  call void @move_bytes(ptr %to, ptr %from, i64 %bytes)
  %k1 = add i64 %k, 1
  br label %head
done:
  ret void
}

; fill the buffers with the next batch; whether it is a short one
define i64 @next_batch(ptr %b) {
entry:
  %rows = call i64 @integer(ptr %b, i64 <rows>)
  %order = call ptr @address(ptr %b, i64 <order>)
  %position = call i64 @integer(ptr %b, i64 <position>)
  %fresh = icmp eq i64 %position, 0
  br i1 %fresh, label %shuffle, label %take
shuffle:
  %generator = call ptr @address(ptr %b, i64 <generator>)
  %next = call ptr @address(ptr %b, i64 <next_uint32>)
  call void @permute(ptr %order, i64 %rows, ptr %generator, ptr %next)
  br label %take
take:
  %size = call i64 @integer(ptr %b, i64 <rows_per_batch>)
  %left = sub i64 %rows, %position
  %short = icmp slt i64 %left, %size
  %count = select i1 %short, i64 %left, i64 %size
  %whole_table = call ptr @address(ptr %b, i64 <whole>)
  %short_table = call ptr @address(ptr %b, i64 <short>)
  %table = select i1 %short, ptr %short_table, ptr %whole_table
  %arrays = call i64 @integer(ptr %b, i64 <arrays>)
  %first = getelementptr i64, ptr %order, i64 %position
  br label %head
head:
  %t = phi i64 [ 0, %take ], [ %t1, %body ]
  %any = icmp slt i64 %t, %arrays
  br i1 %any, label %body, label %done
body:
  %offset = mul i64 %t, <line>
  %line = getelementptr i8, ptr %table, i64 %offset
  call void @gather(ptr %line, ptr %first, i64 %count, i64 %left)
  %t1 = add i64 %t, 1
  br label %head
done:
  %after = add i64 %position, %count
  %over = icmp sge i64 %after, %rows
  %moved = select i1 %over, i64 0, i64 %after
  %p_position = call ptr @place(ptr %b, i64 <position>)
  store i64 %moved, ptr %p_position
  %result = zext i1 %short to i64
  ret i64 %result
}

; the context of the next evaluation: of all rows, or of a batch that is filled now
define internal ptr @choose(ptr %all, ptr %batch) alwaysinline {
entry:
  %none = icmp eq ptr %batch, null
  br i1 %none, label %done, label %fill
fill:
  %short = call i64 @next_batch(ptr %batch)
  %is_short = icmp ne i64 %short, 0
  %of_short = call ptr @address(ptr %batch, i64 <short_context>)
  %of_whole = call ptr @address(ptr %batch, i64 <whole_context>)
  %chosen = select i1 %is_short, ptr %of_short, ptr %of_whole
  br label %done
done:
  %context = phi ptr [ %all, %entry ], [ %chosen, %fill ]
  ret ptr %context
}
"""


def _numbered(text: str) -> str:
    for names in (BATCH, LINE):
        for place, name in enumerate(names):
            text = text.replace(f"<{name}>", str(8 * place))
    return text.replace("<line>", str(8 * len(LINE)))


BATCHES = _numbered(_TEXT)
"""``next_batch``, and ``choose`` for the loops of ``loop_text.py``."""
