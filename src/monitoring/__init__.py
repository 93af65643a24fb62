"""Seeing to it that what is to be there is there.

agents   programs that check in: who is gone is told once, and told again when it is back
present  our own workers check in, and say goodbye
health   servers, Pancake, channels and addresses, looked at each minute
away     what is told while MongoDB, which holds all we would tell, is away
reports  how long customers waited, worked out of the messages
vitals   whether this worker lives and is ready, told over HTTP (listener) and to systemd
gauges   what lies in Redis and MongoDB, for Prometheus
"""
