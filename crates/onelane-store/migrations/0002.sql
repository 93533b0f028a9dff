-- What held the attempt's process tree together: `cgroup`, `namespace` or `guard`.
ALTER TABLE attempt ADD COLUMN process_control TEXT;
-- An attempt is interrupted in the boot that it was claimed in, also when its shim was never known. What is there
-- already takes the boot of its shim.
ALTER TABLE attempt ADD COLUMN claimed_boot_id TEXT;
UPDATE attempt SET claimed_boot_id = boot_id;
