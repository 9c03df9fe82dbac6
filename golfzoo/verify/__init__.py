"""`golfzoo verify`: does a score hold? Probes on a run or a submission, from artifact and validation data alone.

referee.py (start here) plays the text and collects verdicts; subject.py reads what is to be verified; static_checks.py
holds the probes that need no model, scene.py, doubts.py and probes.py those that do. The player is at the other end of
remote.py, in a sandbox, and is player_main.py.
"""
