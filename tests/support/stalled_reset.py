"""Reset a user in a process that stops itself at the end of one step, before the step's transaction is committed.

`python -m tests.support.stalled_reset USER STEP` sends itself SIGSTOP with the step's rows locked. After SIGCONT it
prints the database's error, if the database has ended the transaction meanwhile.
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
    original_step = steps.STEP_OF[step]

    def stalled_step(context: steps.StepContext) -> bool:
        done = original_step(context)
        os.kill(os.getpid(), signal.SIGSTOP)
        return done

    steps.STEP_OF[step] = stalled_step
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
