"""What makes arq a production queue.

wire      how a job and its result are written in Redis
job       the declaration of a job, and the outcome it returns
boundary  the one place that runs a job, wherever it was started, and decides its end
arq_jobs  jobs and schedules in arq's own shapes
running   the jobs of this process: their leases, and their orderly end
inline    a job run here and now to its end, for the command line
"""
