"""`golfzoo verify`: does a score hold? Probes on a run or a submission, from artifact and validation data alone.

referee.py (start here) prepares a place without training data and network, and collects verdicts; subject.py reads what
is to be verified; static_checks.py holds the probes that need no model; scene.py and probes.py those that do, which
subprocess_main.py runs in that place.
"""
