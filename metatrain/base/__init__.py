"""The ground floor: errors, sections, named parameters, progress. Every room may import it."""
