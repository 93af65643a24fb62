"""Alerts about the machine itself: what fails, hangs, is late, grows or is gone, told once each, and its end once.

look       the round: what there is to see, every kind of trouble, and what is told of it
view       what several kinds need: the time, the queue, the schedules
troubles   what a kind found, and bringing its notices in step with it
failing    jobs that fail again and again
slow       runs that take far longer than usual
late       schedules that do not run when they should
queues     dead letters that grow, lanes whose oldest job waits for too long
workers    workers that no longer check in
"""
