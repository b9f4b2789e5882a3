"""`train`: finds or starts the service, and hands over to the trainer."""

from __future__ import annotations

import argparse
from pathlib import Path

from sandbox_service.errors import SetupError


def train(options: argparse.Namespace) -> int:
    from sandbox_service.trainer.recipe import RECIPES

    recipe = RECIPES.get(options.recipe)
    if recipe is None:
        raise SetupError(f"no recipe {options.recipe!r}; there are: {', '.join(RECIPES)}")
    if options.dry_run:
        print(recipe.describe())
        return 0
    if options.emit:
        from sandbox_service.integrations.emit import emit

        for path in emit(recipe, Path(options.out or f"verl-{recipe.name}")):
            print(path)
        return 0
    if not recipe.available:
        raise SetupError(f"the data of {recipe.name} are not published: it can be read with --dry-run, not run")
    raise SetupError(f"{recipe.name} cannot be trained by this version yet: read it with --dry-run")
