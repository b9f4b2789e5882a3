"""The tests of the suite without a protection that was taken away once, and why, as SECURITY.md tells it."""

from __future__ import annotations

_PLAIN = "a plain request of the same kind is answered, as all tests show"
_OPEN = "it fails as it stands: accepted, see above"

UNCONTROLLED = {
    "test_no_program_makes_a_fault_of_ours": "what it does is undone by the steps that A12 takes away one by one",
    "test_many_threads_weigh_no_more_than_one": "without groups there is no CPU time of a call to compare",
    "test_a_neighbour_is_slowed_by_at_most_half": "compared with an idle slot in the same minute",
    "test_an_impossible_allocation_is_a_memory_error": "the interpreter's own refusal",
    "test_record_locks_are_charged": _OPEN,
    "test_processes_that_take_long_to_end_cost_nobody_else": "what takes too long needs many GiB",
    "test_the_call_that_ended_a_program_is_named": "the name is there or is not; the next row is its opposite",
    "test_no_call_is_named_that_did_not_end_the_program": "the row before is its opposite",
    "test_file_locks_do_not_tell_of_others": _OPEN,
    "test_waits_on_files_of_the_image_do_not_meet": _OPEN,
    "test_servers_over_the_loopback": "the row before: the filter for loopback",
    "test_what_can_be_read_in_two_ways_is_not_read": _PLAIN,
    "test_a_hostile_body_is_refused": _PLAIN,
    "test_another_media_type_is_refused": _PLAIN,
    "test_a_page_of_another_site_is_refused": _PLAIN,
    "test_a_body_without_an_end_is_cut_off": _PLAIN,
    "test_a_client_that_closed_its_sending_half_is_answered": "it is about what works",
    "test_slow_and_silent_clients_hold_up_nobody": "it is about what works",
    "test_after_all_this_it_serves_as_before": "it is about what works",
    "test_a_notebook_that_stops_its_supervisor_ends_in_time": "the worker's clocks, which C02 takes away",
    "test_a_whole_pool_passes": "the next row takes the layers away",
    "test_a_missing_layer_is_refused": "the row before is its opposite",
    "test_a_set_up_step_that_fails_is_our_fault": "with the steps that work, programs run: all other tests",
}
