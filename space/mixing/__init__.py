"""What several token mixers are made of: shared bases, optional parts, genes."""
