"""Label maps as connected pieces: found, numbered, the smallest merged into their neighbours.

Everything is done on runs (pixels of one label side by side in a row), of which there are ten times fewer than pixels.
All sums are integers; a colour difference is float64 arithmetic in a fixed order.
"""

from __future__ import annotations

import heapq

import numba
import numpy as np

from vice.pipeline.superpixels.compiled import compiled


def connected_regions(
    labels: np.ndarray, sums: np.ndarray, *, min_area: float, max_count: int
) -> tuple[np.ndarray, int]:
    """Number the 4-connected pieces of equal label and merge the smallest, each into the neighbour nearest in colour.

    Of neighbours equally near, the one with the longest border takes it, then the one whose first pixel comes first.

    Args:
        labels: integers [h, w].
        sums: int32 [h, w + 1, 3], `row_sums` of the picture in a space where distance is difference to the eye.
        min_area: pieces of fewer pixels are merged, the smallest first,
        max_count: and merging goes on until there are at most this many.

    Returns:
        int32 [h, w], ids 0..R-1 in the order of their first pixels, every region 4-connected, and R.
    """
    runs = _runs(np.ascontiguousarray(labels, np.int32))
    parents, areas, colours, links, count = _pieces(*runs, sums)
    _merge(*runs, parents, areas, colours, links, count, float(min_area), max_count, labels.shape[1])
    return _painted(*runs, parents, labels.shape[1])


def count_pieces(labels: np.ndarray) -> int:
    """How many 4-connected pieces of equal label a map [h, w] has."""
    height, width = labels.shape
    runs = _runs(np.ascontiguousarray(labels, np.int32))
    return _pieces(*runs, np.zeros((height, width + 1, 3), np.int32))[4]


@compiled
def _root(parents, run):
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@compiled
def _runs(labels):
    """Starts [n] and labels [n] of all runs, row by row, and the first run of every row [h + 1]."""
    height, width = labels.shape
    starts, values = np.empty(height * width, np.int32), np.empty(height * width, np.int32)
    rows = np.empty(height + 1, np.int32)
    count = 0
    for y in range(height):
        rows[y] = count
        label = labels[y, 0]
        starts[count], values[count] = 0, label
        count += 1
        for x in range(1, width):
            if labels[y, x] != label:
                label = labels[y, x]
                starts[count], values[count] = x, label
                count += 1
    rows[height] = count
    return starts[:count], values[:count], rows


@compiled
def _end(starts, rows, run, y, width):
    """The pixel after a run's last one."""
    return starts[run + 1] if run + 1 < rows[y + 1] else np.int32(width)


@compiled
def _pieces(starts, values, rows, sums):
    """Join runs that touch: every run's parent (the first run of its piece), and by that run area and colour sums.

    Also how many pieces there are, and of every run its row and the first runs above and below that it touches: [n, 3].
    """
    height, width = len(rows) - 1, sums.shape[1] - 1
    parents = np.arange(len(starts)).astype(np.int32)
    links = np.full((len(starts), 3), -1, np.int32)
    for y in range(height):
        links[rows[y] : rows[y + 1], 0] = y
        if y == 0:
            continue
        above, run = rows[y - 1], rows[y]
        while above < rows[y] and run < rows[y + 1]:
            if links[run, 1] < 0:
                links[run, 1] = above
            if links[above, 2] < 0:
                links[above, 2] = run
            if values[above] == values[run]:
                one, other = _root(parents, above), _root(parents, run)
                # the run that came first stays the parent
                parents[max(one, other)] = min(one, other)
            # where both end together, both go on: what comes next touches only at a corner
            end_above, end = _end(starts, rows, above, y - 1, width), _end(starts, rows, run, y, width)
            above += end_above <= end
            run += end <= end_above
    areas, colours = np.zeros(len(starts), np.int64), np.zeros((len(starts), 3), np.int64)
    count = 0
    for run in range(len(starts)):
        root, y = _root(parents, run), links[run, 0]
        parents[run] = root
        count += root == run
        end = _end(starts, rows, run, y, width)
        areas[root] += end - starts[run]
        for channel in range(3):
            colours[root, channel] += sums[y, end, channel] - sums[y, starts[run], channel]
    return parents, areas, colours, links, count


@compiled
def _merge(starts, values, rows, parents, areas, colours, links, count, min_area, max_count, width):
    """Merge pieces, the smallest first: changes parents, areas and colours."""
    smallest = [(areas[run], run) for run in range(len(starts)) if parents[run] == run and areas[run] < min_area]
    if count > max_count:
        smallest = [(areas[run], run) for run in range(len(starts)) if parents[run] == run]
    if len(smallest) == 0:
        return
    heapq.heapify(smallest)
    seen, borders = np.zeros(len(starts), np.int32), np.zeros(len(starts), np.int64)
    # room for every run: lists that grow would cost more than the walk
    waiting, touched = np.empty(len(starts), np.int64), np.empty(len(starts), np.int64)
    turn = np.int32(0)
    while len(smallest) > 0 and count > 1:
        area, piece = heapq.heappop(smallest)
        if parents[piece] != piece or areas[piece] != area:
            continue
        if area >= min_area and count <= max_count:
            break
        turn += np.int32(1)
        target = _nearest_neighbour(
            piece, starts, rows, parents, areas, colours, links, seen, turn, borders, waiting, touched, width
        )
        kept, gone = min(piece, target), max(piece, target)
        parents[gone] = kept
        areas[kept] += areas[gone]
        for channel in range(3):
            colours[kept, channel] += colours[gone, channel]
        count -= 1
        if areas[kept] < min_area or count > max_count:
            heapq.heappush(smallest, (areas[kept], kept))


@compiled
def _nearest_neighbour(
    piece, starts, rows, parents, areas, colours, links, seen, turn, borders, waiting, touched, width
):
    """The neighbour nearest in mean colour: walks through the piece's runs; `borders` is all zero before and after."""
    height = len(rows) - 1
    waiting[0], num_waiting, num_touched = piece, 1, 0
    seen[piece] = turn
    while num_waiting > 0:
        num_waiting -= 1
        run = waiting[num_waiting]
        y, start = numba.int64(links[run, 0]), starts[run]
        end = _end(starts, rows, run, y, width)
        for line in range(max(y - 1, 0), min(y + 2, height)):
            other = max(run - 1, rows[y]) if line == y else numba.int64(links[run, 1 if line < y else 2])
            while other < rows[line + 1] and starts[other] < end + (line == y):
                if line == y:
                    shared = numba.int64(1)
                else:
                    shared = numba.int64(min(end, _end(starts, rows, other, line, width)) - max(start, starts[other]))
                owner = _root(parents, other)
                if owner != piece:
                    if borders[owner] == 0:
                        touched[num_touched] = owner
                        num_touched += 1
                    borders[owner] += shared
                elif seen[other] != turn:
                    seen[other] = turn
                    waiting[num_waiting] = other
                    num_waiting += 1
                other += 1
    best, least, longest = numba.int64(-1), np.inf, numba.int64(0)
    for place in range(num_touched):
        neighbour = touched[place]
        distance = 0.0
        for channel in range(3):
            difference = colours[piece, channel] / areas[piece] - colours[neighbour, channel] / areas[neighbour]
            distance += difference * difference
        length = borders[neighbour]
        equal = distance == least and (length > longest or (length == longest and neighbour < best))
        if distance < least or equal:
            best, least, longest = neighbour, distance, length
        borders[neighbour] = 0
    return best


@compiled
def _painted(starts, values, rows, parents, width):
    """Pieces in the order of their first pixels, int32 [h, w], and how many: a piece's parent has its first pixel."""
    height = len(rows) - 1
    numbers = np.empty(len(starts), np.int32)
    painted = np.empty((height, width), np.int32)
    total = 0
    for y in range(height):
        for run in range(rows[y], rows[y + 1]):
            root = _root(parents, run)
            if root == run:
                numbers[run] = total
                total += 1
            else:
                numbers[run] = numbers[root]
            painted[y, starts[run] : _end(starts, rows, run, y, width)] = numbers[run]
    return painted, total
