"""When what runs: schedules of the settings and those set at run time, in force in every worker, fired once.

plan    one schedule, checked: what it starts, when, and what happens to ticks that are missed or overlap
book    all of them: the settings' with what was changed of them, and those that were added
ticker  the loop in each worker that fires them
notes   what became of them, on its way to MongoDB
desk    what people do with them: add, change, pause, run
"""
