"""The ordered stages of a forecast.

select -> load -> segment -> generate -> respond -> survive -> compare
"""
