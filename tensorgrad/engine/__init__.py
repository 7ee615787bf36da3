"""The engine: what a tensor is, how operations on it are recorded, and how gradients flow back.

Read the files in this order; each imports only from those above it.

    typing       type aliases
    frames       where the user called
    arrays       which arrays are accepted; reversing broadcasting (`unbroadcast`)
    modes        what is recorded (`no_grad`), which hooks are called
    registry     `rule`: the derivatives of a function, and what they read
    exposed      arrays that users have read while a graph needs them
    graph        `Node`, and the walk back (`backpropagate`)
    views        layouts: how arrays share memory
    variable     `Variable`: an array with its node; families that share memory
    operands     what becomes an array, and which classes take precedence
    dispatch     `apply`: every operation passes through it
    primitives   operations that NumPy lacks
    batching     `Batch`: many arrays that NumPy code takes for one
    custom       `differentiable`: operations with derivatives by hand
    mutation     writes to tensors that share memory
    methods      the methods that call NumPy's functions
    tensor       `Tensor`: the class that users see
    guard        read-only operands

So `x * y` of two tensors calls `apply(np.multiply, (x, y))`. It looks up the rule, computes with
the arrays, and records a `Node` if an operand is tracked. `backward()` sorts the nodes, and
`backpropagate` calls the vjps of their rules, newest node first.
"""
