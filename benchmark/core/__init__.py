"""What everything else stands on: records, recipes, random numbers, devices, files, errors. Imports nothing above."""
