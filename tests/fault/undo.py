"""What a power cut may have taken, put back from what dropsync.c remembered.
SPDX-License-Identifier: MIT

Every sector that wasn't synced holds one of the versions that it ever had since its file's last
sync; the size of a file is the old one or the new one; changes of names that no sync of their
directory followed are taken back from the newest on. All of these choices are legal for a disk."""
import os
import shutil
import struct

SECTOR = 512
KINDS = ["all", "none", "torn", "reordered"]


def paths_by_inode(*roots):
    found = {}
    for root in roots:
        for folder, _, names in os.walk(root):
            found[os.stat(folder).st_ino] = folder
            for name in names:
                path = os.path.join(folder, name)
                found.setdefault(os.stat(path).st_ino, path)
    return found


def read_entries(path):
    with open(path, "rb") as file:
        raw = file.read()
    entries, at = [], 0
    while at + 32 <= len(raw):
        offset, changed, kept, size = struct.unpack_from("<QQQQ", raw, at)
        if at + 32 + kept > len(raw):
            break  # the process was killed in the middle of it, before the write itself
        # behind the old end of a file there are zeros until something is written
        entries.append((offset, raw[at + 32:at + 32 + kept] + bytes(changed - kept), size))
        at += 32 + kept
    return entries


def undo_file(path, entries, kind, dice):
    """Takes back what `kind` says. Returns how many bytes."""
    lives = [kind == "none" or (kind == "reordered" and dice.random() < 0.5) for _ in entries]
    kept = set()  # sectors whose newest change lives, and so all the earlier ones
    undone = 0
    with open(path, "r+b") as file:
        for number in range(len(entries) - 1, -1, -1):
            offset, old, _ = entries[number]
            end = offset + len(old)
            at = offset
            while at < end:
                sector = at // SECTOR
                stop = min(end, (sector + 1) * SECTOR)
                alive = lives[number] or (kind == "torn" and dice.random() < 0.5)
                if alive:
                    kept.add(sector)
                elif sector not in kept:
                    file.seek(at)
                    file.write(old[at - offset:stop - offset])
                    undone += stop - at
                at = stop
        size = os.fstat(file.fileno()).st_size
        first = entries[0][2]
        if first != size and (kind == "all" or (kind != "none" and dice.random() < 0.3)):
            file.truncate(first)
            undone += abs(size - first)
    return undone


def undo_name(folder, shadow, words):
    """Takes back one change of names; what isn't there any more has nothing to take back: the kill
    came between a newer change and its note, and that one lives."""
    first = os.path.join(folder, words[1])
    if words[0] == "create" and os.path.exists(first):
        os.unlink(first)
    elif words[0] == "mkdir":
        shutil.rmtree(first, ignore_errors=True)
    elif words[0] == "unlink" and words[2] != "-":
        os.link(os.path.join(shadow, words[2]), first)
    elif words[0] == "rename":
        second = os.path.join(folder, words[2])
        if not os.path.exists(second):
            return False
        os.rename(second, first)
        if words[3] != "-":
            os.link(os.path.join(shadow, words[3]), second)
    return True


def groups_of(changes):
    """Changes that share a name keep their order among each other; others needn't."""
    groups = []
    for change in changes:
        names = {change[1]} | ({change[2]} if change[0] == "rename" else set())
        mine = [g for g in groups if g[0] & names]
        groups = [g for g in groups if not g[0] & names]
        for group in mine:
            names |= group[0]
        groups.append((names, sorted([c for g in mine for c in g[1]] + [change],
                                     key=changes.index)))
    return [g[1] for g in groups]


def undo_names(folder, shadow, lines, dice):
    """As a journaling file system would (a prefix lives), or as any file system might."""
    changes = [tuple(line.split()) + (i,) for i, line in enumerate(lines)]
    groups = [changes] if dice.random() < 0.5 else groups_of(changes)
    undone = 0
    for group in groups:
        alive = dice.choice([0, len(group), dice.randrange(len(group) + 1)])
        for words in reversed(group[alive:]):
            if not undo_name(folder, shadow, words):
                break  # what stands before a change that lives, lives too
            undone += 1
    return undone


def power_cut(data, shadow, dice):
    """Does to the files what a power cut may have done. Returns bytes and names taken back."""
    paths = paths_by_inode(shadow, data)
    taken = [0, 0]
    for name in sorted(os.listdir(shadow)):
        inode, _, kind = name.partition(".")
        path = paths.get(int(inode)) if inode.isdigit() else None
        if kind == "undo" and path:
            entries = read_entries(os.path.join(shadow, name))
            if entries:
                taken[0] += undo_file(path, entries, dice.choice(KINDS), dice)
    for name in sorted(os.listdir(shadow)):
        inode, _, kind = name.partition(".")
        folder = paths.get(int(inode)) if inode.isdigit() else None
        if kind == "names" and folder and os.path.isdir(folder):
            with open(os.path.join(shadow, name)) as file:
                taken[1] += undo_names(folder, shadow, file.read().splitlines(), dice)
    for name in os.listdir(shadow):
        os.unlink(os.path.join(shadow, name))
    return taken
