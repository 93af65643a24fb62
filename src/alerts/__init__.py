"""Telling people in time what is wrong, once, and when it is over.

plan      when the next step of each wait is due, by the page's policy
fresh     whether what we know of a page is new enough to speak of it
monitor   one look at one page: plan, make sure, resolve what is over, hand due steps to the outbox
notices   what is wrong with the service itself: late data, gone agents, failing servers and channels
wanted    whether what waits in the outbox is still to be told
send      the outbox: few messages to each address, by its channel
desk      what people do with alerts: list, acknowledge, snooze
"""
