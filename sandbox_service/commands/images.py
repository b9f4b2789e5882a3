"""`rootfs build`, `info` and `prune`: the images that calls run in."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from sandbox_service.config import Settings
from sandbox_service.progress import build_progress
from sandbox_service.worker import rootfs
from sandbox_service.worker.rootfs import Image, Step


def build(settings: Settings, name: str, requirements: Path | None, *, bare: bool, force: bool) -> int:
    started = time.time()
    steps: set[Step] = set()
    with build_progress(settings) as progress:

        def report(step: Step, detail: str) -> None:
            steps.add(step)
            progress(step, detail)

        image = rootfs.build(settings, report, name=name, requirements=requirements, bare=bare, force=force)
    done = "built again, with the same content" if steps else "up to date"
    if image.built_at > started:
        done = "built"
    print(f"image {image.name} is {done}: {_summary(image)}")
    for library in image.missing:
        print(
            f"  note: it is without {library}, which this machine did not have to give: install it, build with --force"
        )
    return 0


def info(settings: Settings, *, as_json: bool, check: bool) -> int:
    images = rootfs.list_images(settings)
    changed = {image.name: rootfs.verify(image) for image in images} if check else {}
    if as_json:
        print(
            json.dumps([{**asdict(i), "path": str(i.path), "changed": changed.get(i.name)} for i in images], indent=1)
        )
        return 1 if any(changed.values()) else 0
    if not images:
        print(f"there is no image in {settings.state_dir} yet: sandbox-service rootfs build")
    for image in images:
        print(f"{image.name}: {_summary(image)}")
        print(f"  hash      {image.hash}\n  tree      {image.path}")
        print(f"  built     {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(image.built_at))}")
        print(f"  packages  {', '.join(image.packages) or 'none'}")
        if image.missing:
            print(f"  missing   {', '.join(image.missing)}")
        for path in changed.get(image.name, [])[:10]:
            print(f"  CHANGED   {path}")
    return 1 if any(changed.values()) else 0


def prune(settings: Settings, names: list[str]) -> int:
    pruned = rootfs.prune(settings, names)
    done = [f"gave up the name {name}" for name in dict.fromkeys(names)]
    done += [f"removed {digest}" for digest in pruned.removed]
    done += [f"kept {digest}: something runs in it, or in an equal one elsewhere" for digest in pruned.in_use]
    print("\n".join(done) or "nothing to remove")
    return 0


def _summary(image: Image) -> str:
    return (
        f"Python {image.python_version}, {len(image.packages)} packages, {image.size / 1e6:.0f} MB, {image.hash[:12]}"
    )
