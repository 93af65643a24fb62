"""Proof by many short worlds that syncs lose nothing: every fault of the simulator on, the worker killed at random.

plan      one seed's world, faults and settings; the same seed gives the same plan
trouble   what goes wrong while the workers work: jumps of time, bursts, storms, rotations, a second writer, kills
workers   worker processes that are killed and started again; child is what runs in them
naive     the algorithm of the original guide, run by the same harness: it must lose rows
subjects  the streams: customers, posts, conversations with their messages; what befalls them, how they truly are
another   the second writer
verdict   MongoDB beside the truth
seed      one seed from beginning to verdict: `run_seed`
"""

from tests.harness.plan import Algorithm
from tests.harness.seed import Servers, run_seed
from tests.harness.subjects import StreamName
from tests.harness.verdict import Verdict

__all__ = ["Algorithm", "Servers", "StreamName", "Verdict", "run_seed"]
