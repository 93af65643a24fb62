"""What keeps a collection in step with one of Pancake's lists.

stream     what a stream is: how to read a window of it, how to read a row, where rows go
customers  the stream of page customers
pages      the pages themselves
filler     reads the gaps of a time range, newest first, several at once, never losing a row that stays in the list
passes     one pass over one page: load the state, fill the gaps, save the state, find deleted rows
"""
