"""Recipes: one folder is one experiment that a user can run; `shipping` is what is done with a network then.

`settings` or `scales` say what is to be done, `plan` which jobs that takes, `jobs` what one of them does, `recipe`
runs them and reads test once, `page` shows what came out; a folder has of these what its experiment needs. What
all share lies beside the folders: the jobs that fit a network and ask a teacher (`fitting`), and the settings of
data and fits (`settings`).
"""
