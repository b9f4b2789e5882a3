"""Random numbers: every child of a zygote has streams of its own, or those that its call's seed stands for.

Without a seed the state of each generator, all of them Mersenne twisters, is overwritten by bytes from the kernel.
That is what seeding does in the end, but `random.seed()` and `numpy.random.seed()` write to some 200 more pages on the
way, each of which the kernel has to copy for a forked child: 0.5 ms. Where the states lie is verified in the zygote.
"""

from __future__ import annotations

import ctypes
import random
import sys
from collections.abc import Callable
from typing import Any

_WORDS = 624
_BYTES = 4 * _WORDS

_getrandom = ctypes.PyDLL(None).getrandom

_states: list[ctypes.c_void_p] = []
_seeders: list[Callable[[int], object]] = []


def prepare() -> None:
    """Find the generators of the modules that are loaded; RuntimeError if one is laid out in an unknown way."""
    modules: dict[str, Any] = dict(sys.modules)
    generators = [random._inst]
    if "sympy.core.random" in modules:
        generators.append(modules["sympy.core.random"].rng)
    for generator in generators:
        # _randommodule.c: PyObject_HEAD, int index, uint32_t state[624]; an index past the end asks for new numbers.
        address = id(generator) + object.__basicsize__
        *key, position = generator.getstate()[1]
        _verify(address + 4, key, address, position)
        generator.setstate((3, (*key, _WORDS), None))
        _states.append(ctypes.c_void_p(address + 4))
        _seeders.append(generator.seed)
    if "numpy.random.mtrand" in modules:
        state = modules["numpy.random.mtrand"]._rand
        # mt19937.h: uint32_t key[624], int pos.
        address = state._bit_generator.ctypes.state_address
        _, key, position, *_ = state.get_state()
        _verify(address, key.tolist(), address + _BYTES, position)
        state.set_state(("MT19937", key, _WORDS, 0, 0.0))
        _states.append(ctypes.c_void_p(address))
        _seeders.append(lambda seed: state.seed(seed % 2**32))


def renew(seed: int | None) -> None:
    if seed is None:
        for state in _states:
            if _getrandom(state, _BYTES, 0) != _BYTES:
                raise OSError("the system gave no random numbers")
    else:
        for seeder in _seeders:
            seeder(seed)


def _verify(key_address: int, key: list[int], position_address: int, position: int) -> None:
    words = list((ctypes.c_uint32 * _WORDS).from_address(key_address))
    if words != key or ctypes.c_int.from_address(position_address).value != position:
        raise RuntimeError("a random generator keeps its state in another place than expected")
