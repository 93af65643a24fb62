"""The lanes there are."""

#: Each with its share of the slots while all have work.
LANES = {
    "webhooks": 5.0,
    "periodic": 4.0,
    "webhooks_retry": 3.0,
    "monitoring": 2.0,
    "reports": 1.0,
    "sync": 4.0,
    "workflows": 2.0,
}
