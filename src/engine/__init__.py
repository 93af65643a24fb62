"""What makes arq a production queue.

For callers, light: wire (how jobs are written), declaration (what may be known of a job), queue (enqueue, look, pause)
with facts and listing (what it answers), trace, keys and scripts (names and Lua in Redis).
For workers: job (a declaration and its coroutine), boundary (the one place that runs a job and decides its end) with
causes; lanes (claim and run) with claims, wake, runner, finisher and leases; ticks (a schedule's tick, decided once);
recorder (what becomes of each run) with history and metrics; front_door (arq's Worker), shutdown.
dead_letters for people who replay and drop; inline to run a job here and now.
"""
