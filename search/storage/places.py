"""Where a database file lies: locks of SQLite do not hold on network file systems."""

from dataclasses import dataclass
from pathlib import Path

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "lustre"}
)
MOUNTS = Path("/proc/mounts")


@dataclass(frozen=True, slots=True)
class FileSystem:
    name: str

    @property
    def is_network(self) -> bool:
        return self.name in NETWORK or self.name.startswith(("fuse.gluster", "fuse.ceph", "fuse.s3"))


def file_system(path: Path, mounts: Path = MOUNTS) -> FileSystem | None:
    """That of the mount a path lies on; None where this cannot be told (no Linux)."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    place = path.absolute()
    best: tuple[int, str] | None = None
    for line in lines:
        _, point, kind, *_ = line.split()
        folder = Path(point.replace("\\040", " "))
        if place.is_relative_to(folder) and (best is None or len(folder.parts) >= best[0]):
            best = len(folder.parts), kind
    return None if best is None else FileSystem(best[1])
