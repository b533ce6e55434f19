"""Reading archives that strangers made: bounded, as streams, never extracted. Shared by the formats, which know no other."""
