"""Labels that look wrong: what members that never saw them say of them. Changes no label by itself."""
