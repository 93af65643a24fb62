"""The command line: `python -m src ...`, `folkform-worker ...` where it is installed.

Exit codes: 0 done, 1 what was asked for failed or a server is away, 2 a wrong call, with nothing done.
"""

import errno
import os
import sys

import typer

from ..runtime import prepare_process
from . import agents, alerts, dead_letters, notify, policies, queues, reports, runs, schedules, top, webhooks, work

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def _describe() -> None:
    """Background worker: Pancake's data in your own MongoDB, complete and fresh."""


app.command()(work.run)
app.command()(work.sync)
app.command()(queues.enqueue)
app.add_typer(queues.queues, name="queues")
app.add_typer(queues.jobs, name="jobs")
app.add_typer(schedules.schedules, name="schedules")
app.command()(runs.runs)
app.command()(top.top)
app.add_typer(dead_letters.letters, name="dead-letters")
app.add_typer(webhooks.webhook, name="webhook")
app.add_typer(alerts.alerts, name="alerts")
app.add_typer(policies.policy, name="policy")
app.add_typer(notify.notify, name="notify")
app.add_typer(agents.agents, name="agents")
app.command()(agents.health)
app.add_typer(reports.report, name="report")
app.command()(work.doctor)


def main() -> None:
    """Entry point of the console script."""
    prepare_process()
    try:
        app()
        sys.stdout.flush()
    except OSError as e:
        if e.errno != errno.ENOSPC:
            raise
        sys.stderr.write("the output could not be written: no space is left there\n")
        os._exit(1)  # what is in the buffer would be tried, and fail, once more
