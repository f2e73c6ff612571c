"""A process that resets a user and stops itself half way through a step, with its rows locked and nothing committed:
`python -m tests.support.stalled_reset USER STEP`. Once it goes on, it prints what its database made of that.
"""

import os
import signal
import sys

import django

django.setup()

from django.contrib.auth import get_user_model  # noqa: E402 - after setup

from connections import database  # noqa: E402
from connections.conf import tunables  # noqa: E402
from connections.policy.actor import Actor  # noqa: E402
from connections.policy.states import RunKind, Step  # noqa: E402
from connections.recovery import runs, steps  # noqa: E402


def main(name: str, step: Step) -> None:
    take = steps.STEP_OF[step]

    def stalls(context: steps.StepContext) -> bool:
        done = take(context)
        os.kill(os.getpid(), signal.SIGSTOP)
        return done

    steps.STEP_OF[step] = stalls
    values = tunables()
    with database.own_connection(values.beat_seconds):
        user = get_user_model().objects.get_by_natural_key(name)
        run, _ = runs.request(user, RunKind.RESET, actor=Actor.command(), reason="a ticket")
        try:
            runs.advance(run.pk, values)
        except database.AWAY as error:
            print(f"its transaction is gone: {error}")


if __name__ == "__main__":
    main(sys.argv[1], Step(sys.argv[2]))
