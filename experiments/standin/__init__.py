"""What stand-ins teach: switches, audits, conditions."""
