"""Replank beside what people use today, on one timetable."""
