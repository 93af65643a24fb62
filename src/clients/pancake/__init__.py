"""Pancake's messaging API (pages.fm), as developer.pancake.biz documents it and several clients measured it.

client   one method per endpoint we read, paced, retried, typed
models   what we rely on of each row
replies  the one place that maps an HTTP reply to a body or to one of our errors
tokens   which page token to use, and where another one comes from when it is refused
"""
