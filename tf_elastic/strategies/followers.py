"""What begins anew with a variable: an optimizer's memory of it."""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tf_elastic.strategies.stores import TensorLike


class _Follower(NamedTuple):
    reference: "weakref.ref[tf.Variable]"
    initial: Callable[[tf.Tensor], tf.Tensor]
    only_at_rest: bool

    def begin_at(self, value: TensorLike) -> None:
        follower = self.reference()
        if follower is not None:
            follower.assign(self.initial(tf.cast(value, follower.dtype)))


class Followers:
    """The variables that follow one variable, held weakly."""

    def __init__(self) -> None:
        self._followers: list[_Follower] = []

    def add(
        self,
        follower: tf.Variable,
        initial: Callable[[tf.Tensor], tf.Tensor],
        only_at_rest: bool,
    ) -> None:
        """Lets a variable follow.

        Args:
            follower: of the same shape.
            initial: what it starts at, of the value of what it follows.
            only_at_rest: whether it does so only in `stop_at`.
        """
        self._followers.append(
            _Follower(weakref.ref(follower), initial, only_at_rest)
        )

    def alive(self) -> list[tf.Variable]:
        """Those that follow always, and are still there."""
        followers = [
            follower.reference()
            for follower in self._followers
            if not follower.only_at_rest
        ]
        return [follower for follower in followers if follower is not None]

    def begin_at(self, value: TensorLike) -> None:
        """Those that follow always begin anew at a value."""
        self._begin_at(value, at_rest=False)

    def stop_at(self, value: TensorLike) -> None:
        """Those that follow only at rest begin anew at a value."""
        self._begin_at(value, at_rest=True)

    def _begin_at(self, value: TensorLike, at_rest: bool) -> None:
        for follower in self._followers:
            if follower.only_at_rest == at_rest:
                follower.begin_at(value)
