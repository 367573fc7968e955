"""One module a study: each measures one question and writes one record. Cards and tables that read the records live
here too.
"""
