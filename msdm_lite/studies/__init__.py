"""Studies: each module measures one question and writes one JSON record a run. Cards and tables that read these
records are here too.
"""
