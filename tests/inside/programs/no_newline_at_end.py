print("x") # end
