"""Promotion: how often chance displaces a champion."""
