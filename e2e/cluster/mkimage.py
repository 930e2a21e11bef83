"""Makes a container image (a docker-archive that containerd and kind load) from files.

usage: mkimage.py OUT.tar NAME ENTRYPOINT FILE:PATH...

The image holds the files given and nothing else: the dynamic loader and libraries must be among them.
Symbolic links are followed. Equal inputs give equal images.
"""
import hashlib
import io
import json
import os
import platform
import sys
import tarfile

if len(sys.argv) < 5:
    sys.exit(__doc__)
out, name, entrypoint, *files = sys.argv[1:]

layer = io.BytesIO()
with tarfile.open(fileobj=layer, mode="w") as archive:
    for folder, mode in (("bin", 0o755), ("tmp", 0o1777), ("data", 0o1777)):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        archive.addfile(entry)
    for pair in files:
        source, path = pair.split(":")
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode = os.stat(source).st_size, 0o755
        with open(source, "rb") as content:
            archive.addfile(entry, content)

layer = layer.getvalue()
digest = hashlib.sha256(layer).hexdigest()
architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
config = json.dumps({
    "architecture": architecture,
    "os": "linux",
    "config": {"Entrypoint": entrypoint.split(), "Env": ["PATH=/bin"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
}).encode()
config_name = hashlib.sha256(config).hexdigest() + ".json"
manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": [digest + "/layer.tar"]}]).encode()
with tarfile.open(out, "w") as archive:
    for path, content in ((digest + "/layer.tar", layer), (config_name, config), ("manifest.json", manifest)):
        entry = tarfile.TarInfo(path)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
