"""A day of a shop, played fast against two real workers, and a judge that knows only what was written when.

script  who writes what when, by a seed: no simulator, no service
judge   which alerts that makes due, worked out minute by minute; and what is wrong with those that came
play    the simulator lives the script, the workers work, Pancake fails now and then, workers are killed
worker  one worker process, whose idea of now is the script's
old     the rules of earlier systems, for the same judge
"""
