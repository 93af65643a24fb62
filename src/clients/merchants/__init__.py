"""Merchants' own servers, which are strangers': they may be slow, broken, hostile, or not theirs at all.

guard      the one way out: resolves a name once, judges every address it has, dials only what was judged
stream     one connection, which can be given up at once, and which is read so far and no further
pools      connections kept between calls, one pool for each origin
sender     one signed call and what came of it
faults     what went wrong in a merchant's words, and whether it was our side
body       the first bytes of an answer as text
gate       how many calls an endpoint gets at once, and its breaker; turnstile: a worker's side of it
"""
