"""Simulates loading KV over links whose bandwidth changes: policies side by side, and an oracle."""
