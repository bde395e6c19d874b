#!/usr/bin/env escript
%%! +S 2:2
%% Hot code loading as a release upgrade does it: load, suspend, change_code, resume.
%% https://www.erlang.org/doc/apps/stdlib/sys.html#change_code/4
-mode(compile).

-define(GAP_US, 2500).

main(_) ->
    {ok, rules} = compile:file("rules.erl"), {ok, shop} = compile:file("shop.erl"),
    {ok, _} = shop:start(),
    Keeper = self(),
    Seller = spawn_link(fun() -> sell_on_time(Keeper, now_us()) end),
    timer:sleep(1500),
    Good = now_us(),
    GoodSaid = upgrade("2", ""),
    timer:sleep(2500),
    Bad = now_us(),
    BadSaid = upgrade("3", "\nboot() -> error(undefined_name).\n"),
    timer:sleep(2500),
    Seller ! stop,
    timer:sleep(300),
    Sales = collect([]),
    say(Sales, Good, Bad, GoodSaid, BadSaid).

now_us() -> erlang:monotonic_time(microsecond).

sell_on_time(Keeper, Due) ->
    receive stop -> ok after 0 ->
        Now = now_us(),
        if Due =< Now ->
            spawn(fun() -> Keeper ! {sale, Due, catch shop:sell(1), now_us()} end),
            sell_on_time(Keeper, Due + ?GAP_US);
        true -> timer:sleep(1), sell_on_time(Keeper, Due)
        end
    end.

collect(Sales) ->
    receive {sale, Due, Answer, Done} -> collect([{Due, Done, Answer} | Sales]) after 0 -> Sales end.

edit(Name, Version, More) ->
    {ok, Text} = file:read_file(Name ++ ".erl"),
    New = re:replace(Text, "version\\(\\) -> \"[0-9]\"", "version() -> \"" ++ Version ++ "\"", [{return, list}]),
    Boots = case More of
        "" -> New;
        _ -> re:replace(New, "-behaviour", "-on_load(boot/0).\n-behaviour", [{return, list}])
    end,
    ok = file:write_file(Name ++ ".erl", Boots ++ More).

upgrade(Version, More) ->
    edit("rules", Version, ""), edit("shop", Version, More),
    {ok, rules, Rules} = compile:file("rules.erl", [binary]),
    case compile:file("shop.erl", [binary, nowarn_unused_function]) of
        {ok, shop, Shop} ->
            ok = sys:suspend(shop),
            code:purge(shop), code:purge(rules),
            Loaded = code:load_binary(shop, "shop.erl", Shop),
            Said = case Loaded of
                {module, shop} ->
                    {module, rules} = code:load_binary(rules, "rules.erl", Rules),
                    ok = sys:change_code(shop, shop, undefined, []), "taken";
                {error, Why} -> atom_to_list(Why)
            end,
            ok = sys:resume(shop), Said;
        Other -> io_lib:format("~p", [Other])
    end.

longest([]) -> 0.0;
longest(Sales) -> lists:max([Done - Due || {Due, Done, _} <- Sales]) / 1000.

say(Sales, Good, Bad, GoodSaid, BadSaid) ->
    Quiet = [S || {_, Done, _} = S <- Sales, Done < Good],
    After = [S || {Due, Done, _} = S <- Sales, Done >= Good, Due < Bad],
    Broken = [S || {Due, _, _} = S <- Sales, Due >= Bad],
    New = [Done || {_, Done, {"2", _, _}} <- After],
    Failed = fun(Some) -> length([1 || {_, _, {'EXIT', _}} <- Some]) end,
    Mixed = fun(Some) -> length([1 || {_, _, {A, B, _}} <- Some, A =/= B]) end,
    OldAfter = case New of
        [] -> 0;
        _ -> length([1 || {Due, _, {"1", _, _}} <- After, Due > lists:min(New)])
    end,
    Counts = [N || {_, _, {_, _, N}} <- Sales],
    Lost = lists:max(Counts) < length(Counts),
    First = case New of [] -> "null"; _ -> io_lib:format("~.1f", [(lists:min(New) - Good) / 1000]) end,
    io:format("ROW {\"version\": \"OTP ~s\", \"sales\": ~p, \"failed_good\": ~p, \"mixed\": ~p, "
        "\"old_after_new\": ~p, \"lost_state\": ~p, \"longest_quiet_ms\": ~.1f, "
        "\"longest_good_ms\": ~.1f, \"new_code_ms\": ~s, \"failed_bad\": ~p, "
        "\"answered_by_bad\": ~p, \"mixed_bad\": ~p, \"lost_state_bad\": ~p, "
        "\"good\": \"~s\", \"bad\": \"~s\"}~n",
        [erlang:system_info(otp_release), length(Sales), Failed(After), Mixed(After), OldAfter,
         Lost, longest(Quiet), longest(After), First, Failed(Broken),
         length([1 || {_, _, {"3", _, _}} <- Broken]), Mixed(Broken), Lost, GoodSaid, BadSaid]).
