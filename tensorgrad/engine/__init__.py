"""The engine: what a tensor is, how operations on it are recorded, and how gradients flow back.

Read the files in this order; each imports only from those above it.

    typing       type aliases
    frames       where the user called
    arrays       which arrays are accepted; reversing broadcasting (`unbroadcast`)
    registry     `rule`: the derivatives of a function, and what they read
    batching     `Batch`: many arrays that NumPy code takes for one
    exposed      arrays that users have read while a graph needs them
    graph        `Node`: one recorded operation
    views        layouts: how arrays share memory
    variable     `Variable`: an array with its node
    interpreter  `Interpreter`: what computes, at once; a compiled function has another one
    modes        what computes, what is recorded (`no_grad`), which hooks are called
    backward     the walk back (`backpropagate`)
    families     tensors that share memory
    operands     what becomes an array, and which classes take precedence
    dispatch     `apply`: every operation passes through it
    primitives   operations that NumPy lacks
    batched      the functions that compute all arrays of a batch at once
    randomness   random numbers, for each sample its own
    custom       `differentiable`: operations with derivatives by hand
    mutation     writes to tensors that share memory
    methods      the methods that call NumPy's functions
    tensor       `Tensor`: the class that users see
    guard        read-only operands

So `x * y` of two tensors calls `apply(np.multiply, (x, y))`. It looks up the rule, computes with
the arrays, and records a `Node` if an operand is tracked. `backward()` sorts the nodes, and
`backpropagate` calls the vjps of their rules, newest node first.
"""
