"""Does credit tell the truth? Audits against what actions were worth, and the laws that every method keeps."""
