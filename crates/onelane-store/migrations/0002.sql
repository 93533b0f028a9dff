-- What held the attempt's process tree together: `cgroup`, `namespace` or `guard`.
ALTER TABLE attempt ADD COLUMN process_control TEXT;
