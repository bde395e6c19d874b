%% The shop as a gen_server: https://www.erlang.org/doc/system/release_handling.html
-module(shop).
-behaviour(gen_server).
-export([start/0, sell/1, init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).

start() -> gen_server:start({local, shop}, shop, [], []).
sell(Cents) -> gen_server:call(shop, {sell, Cents}, 5000).

version() -> "1".

init([]) -> {ok, 0}.

handle_call({sell, Cents}, From, Count) ->
    erlang:send_after(2, self(), {paid, From, version(), Count + 1, Cents}),  % the bank answers
    {noreply, Count + 1}.

handle_cast(_, Count) -> {noreply, Count}.

handle_info({paid, From, Version, Number, Cents}, Count) ->
    rules:price(Cents),
    gen_server:reply(From, {Version, rules:version(), Number}),
    {noreply, Count}.

code_change(_Old, Count, _Extra) -> {ok, Count}.
