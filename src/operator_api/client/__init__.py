"""Calls the API: build a request, judge the answer, retry as the policy says."""
